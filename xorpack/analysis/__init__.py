"""What the bytes are for, and how far from the limit: bounds, accounts, other formats and coders, reports."""
