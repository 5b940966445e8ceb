"""How an application is frozen and thawed: one file per kind of application, and the dead-man switch under all of them."""
