"""What holding means: the kinds that come with pydrm, and what makes a kind of an app's own code."""
