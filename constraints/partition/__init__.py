"""Where layers go for given degrees: what ranks can hold, the best partition of the layers, and bounds on any."""
