"""The program in the data-mover pod: one mounted volume, in or out."""
