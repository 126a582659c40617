output "url" {
  description = "The address of the service."
  value       = local.https ? "https://${var.domain}" : "http://${aws_lb.this.dns_name}"
}

output "load_balancer" {
  description = "The target of a CNAME record, if Route 53 does not host the zone of the domain."
  value       = aws_lb.this.dns_name
}

output "task_role" {
  description = "The role of the service itself. Attach policies to it if your code calls AWS."
  value       = aws_iam_role.task.name
}

output "security_group" {
  description = "The security group of the tasks. Allow the ports that your code calls, other than 443."
  value       = aws_security_group.service.id
}

output "vpc" {
  description = "The network of the service."
  value       = aws_vpc.this.id
}
