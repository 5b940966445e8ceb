"""The contract of each port, as tests that every adapter and every double passes."""
