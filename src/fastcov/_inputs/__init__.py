"""Input and files: arrays and names are checked, files are read and written. A NaN is refused here."""
