"""`penstock demo`: the whole story on real data, in about a minute."""
