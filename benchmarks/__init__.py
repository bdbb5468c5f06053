"""What each room costs, against what it must beat; `make bench` runs all of it."""
