"""What goes with the label in the data themselves, before any model is asked."""
