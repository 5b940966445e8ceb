"""Doubles, builders and contract suites, shipped and typed. Nothing else in Becalm imports them."""
