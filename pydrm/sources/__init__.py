"""
Where sets of resources come from: http, file, and an app's own plugins.

A source is a resource like any other, of a kind that begins with "source.": one node holds it, and holding it means to
fetch its list again and again and to have the cluster agree with it.
"""
