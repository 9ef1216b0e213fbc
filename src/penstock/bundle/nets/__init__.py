"""Neural nets and bare graphs on their way into a bundle: what a caller declares of them, export, native writing."""
