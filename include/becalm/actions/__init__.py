"""The verbs of Becalm: plan() decides and is pure, execute() acts through ports. They never see an adapter."""
