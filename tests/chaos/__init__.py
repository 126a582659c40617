"""What a rendered service goes through when its database fails, and what it promises meanwhile."""
