# Mail servers.
resource "aws_vpc_security_group_egress_rule" "service_to_mail" {
  for_each          = toset(["465", "587"])
  security_group_id = aws_security_group.service.id
  description       = "Mail servers"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = tonumber(each.key)
  to_port           = tonumber(each.key)
}
