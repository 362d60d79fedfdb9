"""Work that files of strangers decide, done in processes with limits that can be killed."""
