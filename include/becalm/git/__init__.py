"""Repositories of infrastructure code: bare mirrors of them, made by dulwich."""
