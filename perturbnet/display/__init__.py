"""What a person looks at: text that is safe to print, progress bars, templates, contact sheets."""
