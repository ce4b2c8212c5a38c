"""What the lectures share, and the plumbing that would hide their six steps."""
