"""How far studies are, read from their folders on any machine that sees them."""
