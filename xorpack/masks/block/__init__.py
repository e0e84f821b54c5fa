"""The ``block`` codec: blocks of mask bits under prefix codes, each depth of which is XOR-coded."""
