"""The non-blocking side: nothing here waits for one peer."""
