"""One ring of words and its stored bits: elimination, Viterbi, and the search for the rate."""
