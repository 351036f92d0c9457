"""What a study tells the tracking server."""
