"""What is computed from the log beside the traffic, in processes of their own: replay and shadow. Not on any request's
path, and nothing waits for it.
"""
