"""Programs of the sample applications. They use the standard library only, and run in any container that has Python."""
