# Set these in staging/main.tf and production/main.tf, which are yours.

variable "environment" {
  description = "The value of ENVIRONMENT, and part of every name, so that two environments can share an account."
  type        = string

  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "environment must be staging or production."
  }
}

variable "region" {
  description = "The AWS region, such as eu-central-1."
  type        = string
}

variable "availability_zones" {
  description = "The letters of two availability zones of the region."
  type        = list(string)
  default     = ["a", "b"]
}

variable "network" {
  description = "The addresses of the VPC, a /16."
  type        = string
  default     = "10.0.0.0/16"
}

variable "nat_gateways" {
  description = "1, or 2 so that the outage of an availability zone does not cut off the other one from the internet."
  type        = number
  default     = 1

  validation {
    condition     = contains([1, 2], var.nat_gateways)
    error_message = "nat_gateways must be 1 or 2."
  }
}

variable "domain" {
  description = "The host name that clients use, such as api.example.com. Without one, the load balancer speaks HTTP only."
  type        = string
  default     = null

  validation {
    condition     = var.domain != null || var.environment != "production"
    error_message = "production needs a domain, because without one there is no certificate and no HTTPS."
  }
}

variable "zone" {
  description = "The Route 53 zone of the domain, such as example.com."
  type        = string
  default     = null

  validation {
    condition     = var.domain == null || var.zone != null || var.certificate_arn != null
    error_message = "domain needs a zone, or the certificate_arn of a certificate for it if its DNS is elsewhere."
  }
}

variable "certificate_arn" {
  description = "A certificate of ACM for the domain, if Route 53 does not host its zone."
  type        = string
  default     = null
}

variable "architecture" {
  description = "The processor of the images: X86_64, or ARM64, which costs a fifth less."
  type        = string
  default     = "X86_64"
}

variable "cpu" {
  description = "CPU units of a task; 1024 are one core. A process of the service uses at most about one core."
  type        = number
  default     = 512
}

variable "memory" {
  description = "Memory of a task in MiB. Fargate allows 1024 to 4096 for 512 CPU units."
  type        = number
  default     = 1024
}

variable "min_tasks" {
  description = "The number of tasks without load. Two survive the outage of an availability zone."
  type        = number
  default     = 2
}

variable "max_tasks" {
  description = "The maximum number of tasks under load."
  type        = number
  default     = 6
}

variable "settings" {
  description = "Further settings of the service, by the names in docs/configuration.md. They override those in service.tf."
  type        = map(string)
  default     = {}
}

variable "secrets" {
  description = "The names of settings whose values are secret. Terraform makes an empty secret for each; you set its value."
  type        = list(string)
  default     = []
}

variable "log_retention_days" {
  description = "How long CloudWatch retains the logs."
  type        = number
  default     = 30
}

variable "alarm_emails" {
  description = "The addresses that get the alarms. AWS sends each of them a link to confirm."
  type        = list(string)
  default     = []
}

variable "availability_objective" {
  description = "The percentage of requests that must not fail with a 5xx."
  type        = number
  default     = 99.9
}

variable "latency_objective" {
  description = "The percentage of requests whose response must begin within latency_seconds."
  type        = number
  default     = 95
}

variable "latency_seconds" {
  description = "The threshold of latency_objective."
  type        = number
  default     = 0.3
}

variable "waf" {
  description = "Whether AWS WAF filters the requests."
  type        = bool
  default     = false
}

variable "deletion_protection" {
  description = "Whether AWS refuses to delete the load balancer and the database."
  type        = bool
  default     = true
}
