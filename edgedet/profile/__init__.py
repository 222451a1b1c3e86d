"""What ``edgedet profile`` shows: tables, the page, the roofline."""
