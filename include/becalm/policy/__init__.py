"""What the author asked for: the policy file, retention, selection and slots. Pure; it never touches a cluster or a bucket."""
