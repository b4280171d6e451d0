"""A job is anything that holds a device: the queue, the placement rule, the launcher of workers."""
