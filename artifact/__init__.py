"""The contract between export and service: what an artifact is, and how its images are prepared."""
