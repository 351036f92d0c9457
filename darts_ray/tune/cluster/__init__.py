"""The Ray cluster: finding or starting it, and whether a study can run there."""
