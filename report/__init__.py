"""One page that shows the runs, trains the small network in the browser and reads a drawn digit."""
