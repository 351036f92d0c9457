"""What a study found: statistics, figures, one HTML page."""
