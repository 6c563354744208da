"""The local page of `dp3 review`: look at results, correct them, rate them."""
