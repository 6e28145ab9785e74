"""What convd is made of: hashes for the images, bills of materials, known vulnerabilities."""
