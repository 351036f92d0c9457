"""What a search method has to beat: cells drawn at random."""
