"""How the lines of the access log reach the sink: many with one write."""
