"""What is decided: intake, merge, dispatch, on a batch transport for Faust."""
