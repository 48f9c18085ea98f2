"""Reading what a person pastes."""
