terraform {
  # Terraform or OpenTofu. Older versions have no validation of a variable by another one.
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}
