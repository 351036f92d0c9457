"""What a study will run and what that costs, before anything runs."""
