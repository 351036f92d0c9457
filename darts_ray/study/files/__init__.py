"""What a study leaves behind, and reads again: its folder, its record, its tables."""
