"""Images in files, one folder per class: listed, checked and decoded as they are needed."""
