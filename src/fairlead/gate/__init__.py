"""Whether a version may get traffic, told before anybody is exposed to it: by held-out rows that the one in
production answers too."""
