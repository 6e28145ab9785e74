"""What the HTTP port answers to programs: pictures classified, and the Open Inference Protocol."""
