variable "metrics_security_groups" {
  description = "The security groups of the scrapers that may read the metrics. Nothing else reaches their port."
  type        = set(string)
  default     = []
}

resource "aws_vpc_security_group_ingress_rule" "service_from_scraper" {
  for_each                     = var.metrics_security_groups
  security_group_id            = aws_security_group.service.id
  description                  = "A scraper of the metrics"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 9000
  to_port                      = 9000
}
