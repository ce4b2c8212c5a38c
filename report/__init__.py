"""One page that shows the lectures' runs, trains the small network in the browser and reads handwriting."""
