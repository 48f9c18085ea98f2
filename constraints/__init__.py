"""What is true of a layout: rules, bytes and times, over plain integers. Never imports ortools."""
