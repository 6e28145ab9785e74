"""convd and other model servers, side by side: same file, provider, threads, client and machine."""
