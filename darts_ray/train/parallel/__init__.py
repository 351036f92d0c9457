"""One training in several processes: averaged gradients, common batch statistics."""
