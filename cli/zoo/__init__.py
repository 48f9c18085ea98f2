"""The command line's part in a zoo: what a job's folder holds, and what a person sees of a run."""
