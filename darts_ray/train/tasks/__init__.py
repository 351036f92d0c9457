"""What is trained on what: a derived network with the images or the text that train it."""
