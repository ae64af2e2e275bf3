"""What the project file says, and how a batch of source rows becomes target rows."""
