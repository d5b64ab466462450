SUMMARY = "x"
TARGETS = "y"
